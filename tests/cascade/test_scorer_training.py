"""Training: the encoder is carried over exactly, the loop learns and resumes, the figures mean what they say."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from transformers import BertConfig, BertModel, DistilBertModel

from cascade.scorer import calibration, fitting, head, manifest, measuring
from cascade.scorer import model as network
from cascade.scorer.counterfactuals import own_record_swaps
from cascade.scorer.fitting import Example, TrainingConfig, fit
from cascade.scorer.rows import read_rows, row_of
from cascade.scorer.training import lessons, nameless, own_record_measure, train
from tests.cascade.small_scorer import small_rows, small_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return small_weights(tmp_path_factory.mktemp("weights"))


def test_the_encoder_is_carried_over_exactly():
    torch.manual_seed(1)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    bert = BertModel(BertConfig(vocab_size=90, **sizes)).eval()
    plain = network.config(vocab_size=90, dim=48, n_layers=2, n_heads=4, hidden_dim=96)
    ours = DistilBertModel(plain).eval()
    renamed = network._as_distilbert(dict(bert.state_dict()))
    ours.load_state_dict(renamed)
    ids = torch.randint(0, 90, (3, 40))
    with torch.no_grad():
        difference = bert(ids).last_hidden_state - ours(ids).last_hidden_state
    assert difference.abs().max() < 1e-5


def test_other_bytes_than_the_pinned_encoder_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"not the encoder")
    with pytest.raises(network.WrongBytes, match="all-MiniLM"):
        network.from_minilm(tmp_path)


def coin_examples(count: int) -> list[Example]:
    """Those to the point answer 20 with 20 and 30 with 30."""
    chance = random.Random(3)
    tossed = [(chance.choice((20, 30)), chance.choice((20, 30)), chance.randint(40, 60)) for _ in range(count)]
    return [Example((2, a, 3), (2, b, b, more, 3), float(a == b)) for a, b, more in tossed]


def test_the_head_learns_what_is_to_the_point_and_the_encoder_stays(weights, tmp_path):
    found = coin_examples(400)
    model, _ = network.load(weights)
    before = {name: tensor.clone() for name, tensor in model.distilbert.state_dict().items()}
    config = TrainingConfig(epochs=40, learning_rate=1e-2, pairs_a_step=64)
    fit(model, found, config, checkpoint=tmp_path / "read.pt", say=lambda step, steps, loss: None)
    logits = network.logits(model, [(each.asked, each.answered) for each in found])
    told = [[x for x, each in zip(logits, found, strict=True) if each.target == side] for side in (1, 0)]
    assert measuring.area(*told) > 0.99
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.distilbert.state_dict().items())


def test_a_run_that_was_stopped_reads_no_text_again_and_ends_the_same(weights, tmp_path, monkeypatch):
    config, found = TrainingConfig(epochs=2, pairs_a_step=64), coin_examples(400)
    monkeypatch.setattr(fitting, "READ_TOGETHER", 10)
    whole, _ = network.load(weights)
    fit(whole, found, config, checkpoint=tmp_path / "whole.pt", say=lambda step, steps, loss: None)

    class Stopped(Exception):
        pass

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 4:
            raise Stopped

    with pytest.raises(Stopped):
        fit(network.load(weights)[0], found, config, checkpoint=tmp_path / "stopped.pt", say=stop)
    steps: list[int] = []
    resumed, _ = network.load(weights)
    fit(
        resumed, found, config, checkpoint=tmp_path / "stopped.pt", say=lambda step, all_steps, loss: steps.append(step)
    )
    assert steps[0] == 5
    assert all(
        torch.equal(*pair) for pair in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True)
    )


def test_a_whole_run_writes_weights_that_can_be_served(weights, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in small_rows()))
    config = TrainingConfig(epochs=1)
    written = train([data], weights, tmp_path / "out", config, say=lambda text: None)
    assert manifest.read(tmp_path / "out") == written
    assert len(head.load(tmp_path / "out").trees.roots) > 0
    assert set(written.metrics["all of validation"]["auc"]) == set(measuring.SLICES)
    assert written.data["rows"] >= len(read_rows([data], "train"))
    assert not list((tmp_path / "out").glob("checkpoint*"))


def test_rows_from_elsewhere_teach_a_tenants_weights_and_neither_calibrate_nor_measure_them(weights, tmp_path):
    own, general = tmp_path / "own.jsonl", tmp_path / "general.jsonl"
    rows = small_rows()
    own.write_text("\n".join(json.dumps(row) for row in rows))
    general.write_text("\n".join(json.dumps({**row, "id": f"tau-general-{row['id']}"}) for row in rows))
    config = TrainingConfig(epochs=1)
    written = train([own], weights, tmp_path / "out", config, beside=[general], say=lambda text: None)
    assert written.data["rows"] == 2 * len(read_rows([own], "train"))
    assert written.metrics["all of validation"]["rows"] == len(read_rows([own], "validation"))


def test_the_network_learns_what_is_to_the_point_whoever_asks(weights):
    good = row_of(small_rows()[0])
    elsewhere = replace(good, good=False, negative_type="off_topic", answer="You are welcome.")
    disliked = replace(good, good=False, negative_type="other", answer="No.")
    wrong_user = replace(good, good=False, negative_type="right_answer_wrong_user")
    tokenizer = network.tokenizer_of(weights / "tokenizer.json")
    found = lessons([good, elsewhere, disliked, wrong_user], tokenizer, TrainingConfig())
    assert [each.target for each in found] == [1.0, 0.0]
    assert found[0].answered == network.encode(tokenizer, good.answer, 128)


def test_a_row_is_also_read_as_of_a_company_whose_fields_have_no_known_name(weights):
    row = row_of(small_rows()[0])
    found = network.reading(network.tokenizer_of(weights / "tokenizer.json"), row.context, row.answer, 128)
    stripped = nameless(row, found)
    assert stripped.evidence == found.evidence
    assert 0 < len(stripped.terms) < len(found.terms)
    assert {term.split(":")[0] for term in stripped.terms} <= {"a", "q", "h"} < {t.split(":")[0] for t in found.terms}


def test_own_record_swaps_quote_only_the_customer():
    rows = [row_of(row) for row in small_rows() if row["label"] == "good"]
    swaps = list(own_record_swaps(rows, seed=1))
    assert swaps
    by_id = {row.id: row for row in rows}
    for swap in swaps:
        origin = by_id[swap.id.split("/")[0]]
        new = set(swap.answer.split()) - set(origin.answer.split())
        told = json.dumps([record.data for record in origin.context.customer.records])
        numbers = [record.external_id for record in origin.context.customer.records]
        assert not swap.good
        assert swap.own_record
        assert all(word.strip(".,$#").removesuffix(".0") in told + str(numbers) for word in new), new


def test_swaps_that_measure_are_made_of_customers_that_trained_nothing():
    rows = [row_of(row) for row in small_rows()]
    validation = [row for row in rows if row.split == "validation"]
    measured = own_record_measure(validation)
    assert any(row.own_record for row in measured)
    assert {row.user_id for row in measured} <= {row.user_id for row in validation}
    good = {row.group_id for row in measured if row.good}
    assert {row.group_id for row in measured if not row.good} == good


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60))
def test_the_auc_is_that_of_the_textbook(pairs):
    scores, good = [s for s, _ in pairs], [g for _, g in pairs]
    if len(set(good)) < 2:
        return
    ours = measuring.area([s for s, g in pairs if g], [s for s, g in pairs if not g])
    assert ours == pytest.approx(roc_auc_score(good, scores))


def test_every_slice_is_ranked_against_its_own_good_rows():
    rows = [row_of(row) for row in small_rows()]
    good, bad = measuring.slice_members(rows, "right_answer_wrong_user")
    assert {rows[i].group_id for i in good} == {rows[i].group_id for i in bad}
    assert measuring.areas(rows[:1], [0.5])["own_record"] is None


def test_calibration_turns_logits_into_probabilities():
    chance = np.random.default_rng(5)
    truth = chance.normal(size=6_000)
    good = chance.random(6_000) < 1 / (1 + np.exp(-(2 * truth - 1)))
    fitted = calibration.fit(truth.tolist(), good.tolist())
    assert fitted.scale == pytest.approx(2, abs=0.2)
    assert fitted.shift == pytest.approx(-1, abs=0.2)
    right = [fitted.probability(x) for x in truth]
    assert calibration.expected_error(right, good.tolist()) < 0.03
    assert calibration.expected_error([p / 2 for p in right], good.tolist()) > 0.1
    assert math.isnan(fitted.probability(math.nan))


@pytest.mark.parametrize("harm", ["no manifest", "other weights", "other rendering", "not json"])
def test_weights_without_a_fitting_manifest_are_refused(harm, tmp_path):
    folder = small_weights(tmp_path / "weights")
    told = json.loads((folder / manifest.NAME).read_text())
    if harm == "no manifest":
        (folder / manifest.NAME).unlink()
    elif harm == "not json":
        (folder / manifest.NAME).write_text("{")
    elif harm == "other rendering":
        (folder / manifest.NAME).write_text(json.dumps({**told, "rendering": -1}))
    else:
        (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(manifest.UnfitWeights):
        manifest.read(folder)
