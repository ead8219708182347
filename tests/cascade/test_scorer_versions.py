"""A tenant's own scorer from its labels to its retirement: trained, shadowed, promoted if not worse, rolled back."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError

from accounts.tenancy import in_tenant
from cascade import scorer_labels, scorer_training, scorer_tuning, scorer_versions
from cascade.models import ScorerCalibration, ScorerVersion, ShadowScore
from cascade.scorer import manifest
from cascade.scorer.calibration import Calibration, logit
from cascade.scorer.fitting import TrainingConfig
from cascade.scorer.legible import judgeable
from cascade.scorer.own_rows import Label, half, part
from cascade.scorer_api import ScorerVersionRow
from cascade.scorer_training import AlreadyTraining, TooFewLabels, train_for
from cascade.scorer_versions import NoSuchVersion, NotPromoted
from cascade.strictness import Ratings
from cascade.values import Context
from tests.cascade.judged_turns import NOW, QUESTION, customer_value, judged_turns, said_of
from tests.cascade.small_scorer import small_weights
from tests.cast import open_shop

pytestmark = pytest.mark.usefixtures("database")
QUICK = TrainingConfig(epochs=1, window=96)
EQUAL = scorer_versions.Comparison(40, 40, 40, 0.9, 0.9), Calibration()
State = ScorerVersion.State


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Path:
    return small_weights(tmp_path_factory.mktemp("shipped"))


@pytest.fixture
def shop(settings, shipped, tmp_path):
    settings.VAR, settings.SCORER_WEIGHTS = tmp_path, shipped
    return open_shop("alice", "http://127.0.0.1:1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """Filled by the first test that trains: it takes seconds, and what is trained is the same for all."""
    return {}


def version_of(shop, folder: Path, name: str, **columns) -> ScorerVersion:
    """A version on record whose weights lie in `folder`."""
    with in_tenant(shop.tenant_id):
        return ScorerVersion.objects.create(
            tenant_id=shop.tenant_id, weights_version=name, folder=str(folder), **columns
        )


def states(shop) -> dict[str, str]:
    with in_tenant(shop.tenant_id):
        return dict(ScorerVersion.objects.values_list("weights_version", "state"))


def test_a_tenants_labels_become_a_candidate_that_is_promoted_because_it_is_not_worse(shop, shipped, tmp_path):
    judged_turns(shop, 190)
    version = train_for(shop.tenant_id, QUICK, say=lambda text: None)
    name = version.weights_version
    assert version.state == State.CANDIDATE
    assert version.learnt_from == {"reply": 380}
    assert manifest.read(scorer_tuning.folder_of(version)).version == name
    left = [path for path in (tmp_path / "scorers" / "training").rglob("*") if path.is_file()]
    assert all(path.suffix == ".lock" and not path.read_text() for path in left)

    scorer_versions.shadow(shop.tenant_id, name)
    assert scorer_versions.score_in_shadow(shop.tenant_id) == 0  # what was answered before it was trained is not asked
    judged_turns(open_shop("charlie", "http://127.0.0.1:1"), 2)
    assert scorer_versions.score_in_shadow(shop.tenant_id) == 0  # another tenant's answers are not seen

    found = scorer_versions.promote(shop.tenant_id, name, "alice")
    assert found.error_new < found.error_old / 10
    with in_tenant(shop.tenant_id):
        live = ScorerVersion.objects.get()
        assert scorer_tuning.scoring().folder == scorer_tuning.folder_of(live)
    assert (live.state, live.promoted_by, live.comparison["refusal"]) == (State.LIVE, "alice", "")
    assert scorer_versions.rollback(shop.tenant_id, "bob") == ""
    with in_tenant(shop.tenant_id):
        assert scorer_tuning.scoring().folder is None
        assert ScorerVersion.objects.get().retired_by == "bob"


def test_one_that_may_be_worse_is_refused_and_the_refusal_is_on_record(shop, shipped, monkeypatch):
    judged_turns(shop, 190)

    def scored(folder, asked):
        """The live one knows which answers are right; the new one does not."""
        right = [
            answer.split("W")[1].split()[0] in context.customer.records[0].external_id for context, answer in asked
        ]
        return (
            [0.9 if good else 0.1 for good in right]
            if folder == shipped
            else [0.5 + n % 7 / 20 for n in range(len(asked))]
        )

    monkeypatch.setattr(scorer_versions, "scores", scored)
    version_of(shop, shipped.parent / "worse", "worse")
    with pytest.raises(NotPromoted, match="rank worse"):
        scorer_versions.promote(shop.tenant_id, "worse", "alice")
    assert states(shop) == {"worse": State.CANDIDATE}
    with in_tenant(shop.tenant_id):
        assert "rank worse" in ScorerVersion.objects.get().comparison["refusal"]


def test_with_too_few_labels_nothing_is_trained_and_nothing_promoted(shop, shipped):
    judged_turns(shop, 6)
    with pytest.raises(TooFewLabels, match=r"12 labelled answers \(6 good, 6 bad\) of 6 customers"):
        train_for(shop.tenant_id, QUICK, say=lambda text: None)
    version_of(shop, shipped, "v1")
    with pytest.raises(NotPromoted, match="too few labels"):
        scorer_versions.promote(shop.tenant_id, "v1", "alice")
    assert states(shop) == {"v1": State.CANDIDATE}


def test_versions_are_compared_by_customers_that_none_has_learnt_from(shop):
    judged_turns(shop, 40)
    labels = scorer_labels.labels(shop.tenant_id)
    compared = scorer_versions.unlearnt(labels)
    assert 0 < len(compared) < len(labels)
    assert {part(label.customer) for label in compared} == {"validation"}


def labels_of(count: int, kind: str = "reply") -> list[Label]:
    """A right and a wrong answer to each of many customers, of those that no version learns from."""
    return [
        Label(
            f"{n}-{good}", f"c{n}", Context(customer_value(n), QUESTION, NOW), said_of(n + (not good)), good, kind, "g"
        )
        for n in range(count)
        if part(f"c{n}") == "validation"
        for good in (True, False)
    ]


def test_customers_by_whom_a_version_was_calibrated_neither_help_nor_harm_it(shipped, monkeypatch):
    labels = labels_of(400)
    measured = [label for label in labels if half(label.customer) == 1]
    by_answer = {(label.context.customer.external_id, label.answer): label for label in labels}

    def scored(folder, asked):
        """The new one knows those that calibrated it by heart, and nothing of anybody else."""
        found = [by_answer[context.customer.external_id, answer] for context, answer in asked]
        by_heart = [0.9 if label.good else 0.1 for label in found]
        known = [folder == shipped or half(label.customer) == 0 for label in found]
        return [score if knows else 0.5 for score, knows in zip(by_heart, known, strict=True)]

    monkeypatch.setattr(scorer_versions, "scores", scored)
    found, _ = scorer_versions.compare_folders(labels, shipped, shipped.parent / "new")
    assert (found.good + found.bad, found.area_new) == (len(measured), 0.5)
    assert "rank worse" in found.refusal


def test_what_no_weights_may_score_does_not_stop_a_promotion(shipped, monkeypatch):
    def scored(folder, asked):
        assert all(judgeable(context.question, answer) for context, answer in asked)
        return [0.5] * len(asked)

    monkeypatch.setattr(scorer_versions, "scores", scored)
    labels = labels_of(400)
    found, _ = scorer_versions.compare_folders([*labels, replace(labels[0], answer="x" * 600)], shipped, shipped)
    assert (found.refusal, found.area_new) == ("", 0.5)


def test_the_tenants_map_is_fitted_by_replies_alone():
    replies = labels_of(100)
    said = [0.5 + n % 7 / 20 for n in range(len(replies))]
    for kind in ("correction", "staff", "draft"):
        assert scorer_versions.own_map(labels_of(100, kind), said, {0, 1}) == Calibration()
    assert scorer_versions.own_map(replies, said, {0, 1}) != Calibration()


def test_a_roll_back_goes_one_step_back_each_time_and_ends_at_the_shipped_weights(shop, shipped, monkeypatch):
    monkeypatch.setattr(scorer_versions, "compare_folders", lambda *args: EQUAL)
    for name in ("v1", "v2", "v3"):
        version_of(shop, shipped, name)
        scorer_versions.promote(shop.tenant_id, name, "alice")
    assert states(shop) == {"v1": State.RETIRED, "v2": State.RETIRED, "v3": State.LIVE}
    assert [scorer_versions.rollback(shop.tenant_id, "bob") for _ in range(3)] == ["v2", "v1", ""]
    assert set(states(shop).values()) == {State.RETIRED}
    with pytest.raises(NoSuchVersion, match="shipped"):
        scorer_versions.rollback(shop.tenant_id, "bob")


def test_what_was_rolled_back_is_not_rolled_back_to(shop, shipped, monkeypatch):
    monkeypatch.setattr(scorer_versions, "compare_folders", lambda *args: EQUAL)
    for name in ("v1", "v2", "v3", "v4"):
        version_of(shop, shipped, name)
    scorer_versions.promote(shop.tenant_id, "v1", "alice")
    scorer_versions.promote(shop.tenant_id, "v2", "alice")
    assert scorer_versions.rollback(shop.tenant_id, "bob") == "v1"
    scorer_versions.promote(shop.tenant_id, "v3", "alice")
    assert [scorer_versions.rollback(shop.tenant_id, "bob") for _ in range(2)] == ["v1", ""]
    scorer_versions.promote(shop.tenant_id, "v4", "alice")
    assert scorer_versions.rollback(shop.tenant_id, "bob") == ""


def test_what_became_live_while_two_were_compared_is_not_overwritten(shop, shipped, monkeypatch):
    first, second = version_of(shop, shipped, "first"), version_of(shop, shipped, "second")

    def meanwhile(*args):
        with in_tenant(shop.tenant_id):
            ScorerVersion.objects.filter(id=second.id).update(state=State.LIVE)
        return EQUAL

    monkeypatch.setattr(scorer_versions, "compare_folders", meanwhile)
    with pytest.raises(NotPromoted, match="meanwhile"):
        scorer_versions.promote(shop.tenant_id, "first", "alice")
    assert states(shop) == {"first": State.CANDIDATE, "second": State.LIVE}
    assert first.state == State.CANDIDATE


def test_a_tenant_has_one_live_and_one_shadow_version_at_most(shop, shipped):
    for state in (State.LIVE, State.SHADOW):
        version_of(shop, shipped, f"{state} one", state=state)
        with pytest.raises(IntegrityError):
            version_of(shop, shipped, f"{state} two", state=state)
    version_of(shop, shipped, "next")
    scorer_versions.shadow(shop.tenant_id, "next")
    assert states(shop)["shadow one"] == State.CANDIDATE
    with pytest.raises(NoSuchVersion):
        scorer_versions.shadow(shop.tenant_id, "live one")


def test_a_shadow_version_scores_what_was_answered_since_beside_the_live_score(shop, shipped):
    row = version_of(shop, shipped, "v1", state=State.SHADOW)
    judged_turns(shop, 3, score=0.9)
    assert scorer_versions.score_in_shadow(shop.tenant_id) == 6
    assert scorer_versions.score_in_shadow(shop.tenant_id) == 0
    with in_tenant(shop.tenant_id):
        shadows = list(ShadowScore.objects.select_related("call", "version"))
        assert {(s.version, s.call.score) for s in shadows} == {(row, 0.9)}
    assert all(s.score is not None and 0 <= s.score <= 1 for s in shadows)


def test_shadow_scores_are_read_through_the_tenants_map_as_live_ones_are(shop, shipped):
    plain, read = version_of(shop, shipped, "plain", state=State.SHADOW), version_of(shop, shipped, "read")
    judged_turns(shop, 2, score=0.9)
    scorer_versions.score_in_shadow(shop.tenant_id)
    scorer_versions.shadow(shop.tenant_id, "read")
    with in_tenant(shop.tenant_id):
        ScorerCalibration.objects.create(
            tenant_id=shop.tenant_id, weights_version="read", shift=-2.0, expected_bad=0.2, expected_worth=10
        )
    scorer_versions.score_in_shadow(shop.tenant_id)
    with in_tenant(shop.tenant_id):
        found = {(s.version_id, s.call_id): s.score for s in ShadowScore.objects.all()}
    calls = {call for _, call in found}
    assert len(found) == 2 * len(calls) > 0
    for call in calls:
        lowered = Calibration(1.0, -2.0).lowered(found[plain.id, call])
        assert found[read.id, call] == pytest.approx(lowered, abs=0.02)  # in bf16, in other company


# --- the run ------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_with_the_rows_it_began_with(shop, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*args, **told):
        raise Killed

    judged_turns(shop, 110)
    monkeypatch.setattr("cascade.scorer.training.train", die)
    with pytest.raises(Killed):
        train_for(shop.tenant_id, QUICK, say=lambda text: None)
    (rows,) = (scorer_training._root() / "training").glob("*/rows.jsonl")
    began_with = rows.read_text()
    with in_tenant(shop.tenant_id):
        ScorerVersion.objects.all().delete()
    said: list[str] = []

    def remember(paths, *args, **told):
        assert paths[0].read_text() == began_with
        raise ValueError("it fails for good")

    monkeypatch.setattr("cascade.scorer.training.train", die)
    with pytest.raises(Killed):  # on other terms, what was begun does not fit
        train_for(shop.tenant_id, replace(QUICK, epochs=2), say=said.append)
    assert said == ["making rows of 220 labels"]
    with pytest.raises(Killed):
        train_for(shop.tenant_id, QUICK, say=said.append)
    assert len(said) == 2
    monkeypatch.setattr("cascade.scorer.training.train", remember)
    judged = Counter(json.loads(line)["label"] for line in began_with.splitlines())
    assert judged["bad"] > judged["good"] > 100
    with pytest.raises(ValueError, match="for good"):
        train_for(shop.tenant_id, QUICK, say=said.append)
    assert any("going on" in text for text in said)
    assert not rows.exists()  # it would fail again, and the rows are not to stay


def test_two_runs_of_one_tenant_do_not_meet(shop):
    with scorer_training._alone(shop.tenant_id), pytest.raises(AlreadyTraining):
        train_for(shop.tenant_id, QUICK, say=lambda text: None)


def test_rows_of_a_run_that_nobody_resumed_are_deleted(shop, monkeypatch):
    with scorer_training._alone(shop.tenant_id) as folder:
        (folder / "rows.jsonl").write_text("{}")
    assert scorer_training.forget_unfinished() == 0
    monkeypatch.setattr(scorer_training, "RESUMED_WITHIN", 0)
    with scorer_training._alone(shop.tenant_id):  # it takes long, but it is under way
        assert scorer_training.forget_unfinished() == 0
    assert folder.exists()
    assert scorer_training.forget_unfinished() == 1
    assert not folder.exists()


# --- calibration and the operator's commands -------------------------------------------------------


def test_a_tenant_whose_replies_disappoint_has_its_scores_read_lower(shop, shipped):
    assert scorer_training.calibrate([shop.tenant_id]) == {}
    judged_turns(shop, 12)
    assert scorer_training.calibrate([shop.tenant_id]) == {shop.tenant_id: 24}
    with in_tenant(shop.tenant_id):
        row = ScorerCalibration.objects.get()
        maps = scorer_tuning.scoring().maps
    version = manifest.read(shipped).version
    assert (row.weights_version, row.labels) == (version, 24)
    assert 0.2 < row.expected_bad < 0.5  # half of them were bad, a fifth is expected
    assert set(maps) == {version}


def test_tenants_that_share_weights_are_calibrated_by_one_process(shop, monkeypatch):
    begun = []

    class Counted(scorer_versions.Scorer):
        async def start(self):
            begun.append(self)
            await super().start()

    monkeypatch.setattr(scorer_versions, "Scorer", Counted)
    second, silent = (open_shop(name, "http://127.0.0.1:1") for name in ("second", "silent"))
    for each in (shop, second):
        judged_turns(each, 12)
    tenants = [each.tenant_id for each in (shop, second, silent)]
    assert set(scorer_training.calibrate(tenants)) == {shop.tenant_id, second.tenant_id}
    assert len(set(map(id, begun))) == 1


def test_the_operators_commands_tell_what_happened(shop, shipped, monkeypatch):
    def said(*arguments: str) -> str:
        out = io.StringIO()
        call_command("scorer", *arguments, stdout=out)
        return out.getvalue()

    monkeypatch.setattr(scorer_versions, "compare_folders", lambda *args: EQUAL)
    version_of(shop, shipped, "v1")
    assert "the shipped weights  live" in said("list", "alice")
    assert "not acted on" in said("shadow", "alice", "v1")
    assert "area 0.900 before, 0.900 now" in said("promote", "alice", "v1")
    assert "promoted by" in said("list", "alice")
    assert "shipped weights" in said("rollback", "alice")
    with pytest.raises(CommandError, match="nothing to go back to"):
        said("rollback", "alice")
    with pytest.raises(CommandError, match="no tenant"):
        said("list", "nobody")
    with pytest.raises(CommandError, match="0 labelled answers"):
        call_command("train_scorer", "--tenant=alice", "--background")
    with pytest.raises(CommandError, match="give --data"):
        call_command("train_scorer", "--data", "x", "--out", "y", "--tenant", "alice")


def test_how_far_tenants_differ_is_learnt_from_all_and_one_tenants_trouble_stops_no_other(shop, monkeypatch):
    steady = [open_shop(f"shop{n}", "http://127.0.0.1:1").tenant_id for n in range(3)]
    broken = open_shop("broken", "http://127.0.0.1:1").tenant_id
    monkeypatch.setattr(scorer_training, "LEAST_TENANTS", 3)

    def judged(tenant_id, *how):
        """The steady ones are praised exactly as often as scores promise; ours has four complaints so far."""
        if tenant_id == broken:
            raise ValueError
        good = [True, True, True, False] * 125 if tenant_id in steady else [False] * 4
        return scorer_training.Judged(tenant_id, "v", [logit(0.75)] * len(good), good, [Ratings(3, 1)])

    def our_shift(tenants) -> float:
        scorer_training.calibrate(tenants)
        with in_tenant(shop.tenant_id):
            return ScorerCalibration.objects.get().shift

    monkeypatch.setattr(scorer_training, "_judged", judged)
    alone = our_shift([broken, shop.tenant_id])
    assert alone < -0.5
    assert our_shift([broken, *steady, shop.tenant_id]) == pytest.approx(0, abs=0.05)


def test_a_better_version_that_promises_too_much_is_promoted_and_read_lower_from_then_on(shop, shipped, monkeypatch):
    judged_turns(shop, 200)

    def scored(folder, asked):
        right = [
            answer.split("W")[1].split()[0] in context.customer.records[0].external_id for context, answer in asked
        ]
        old = {True: 0.8, False: 0.3} if folder == shipped else {True: 0.99, False: 0.6}
        seldom = 5 if folder == shipped else 50  # mistakes
        return [old[good] if n % seldom else old[not good] for n, good in enumerate(right)]

    monkeypatch.setattr(scorer_versions, "scores", scored)
    version_of(shop, shipped.parent / "own", "own")
    found = scorer_versions.promote(shop.tenant_id, "own", "alice")
    assert found.error_new < found.error_old
    with in_tenant(shop.tenant_id):
        own_map = scorer_tuning.scoring().maps["own"]
    assert own_map.lowered(0.6) < 0.4


def test_for_a_live_version_of_an_earlier_release_the_shipped_weights_judge_and_train_and_the_list_says_so(
    shop, shipped, tmp_path
):
    earlier = Path(shutil.copytree(shipped, tmp_path / "earlier"))
    described = json.loads((earlier / manifest.NAME).read_text())
    (earlier / manifest.NAME).write_text(json.dumps(described | {"rendering": described["rendering"] - 1}))
    version = version_of(shop, earlier, "earlier", state=State.LIVE)
    with in_tenant(shop.tenant_id):
        assert scorer_tuning.live_folder() == shipped
        assert scorer_tuning.is_outdated(version)
        assert ScorerVersionRow(version).data["outdated"]
    call_command("scorer", "list", "alice", stdout=(said := io.StringIO()))
    assert "cannot judge any more" in said.getvalue()
    version_of(shop, shipped, "next")
    with pytest.raises(NotPromoted, match="too few labels"):  # compared with the shipped weights, not refused for good
        scorer_versions.promote(shop.tenant_id, "next", "alice")
