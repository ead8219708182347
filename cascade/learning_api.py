"""Better strategies over the REST API: searched for, tried in the shadow, replayed, watched for drift."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.response import Response

from accounts.money import Money
from accounts.rest.fields import Flag, Id, Number, PositiveDollars, Ref, Text, Whole
from accounts.rest.lists import Filter, text
from accounts.rest.problems import Problem
from accounts.rest.rows import Row, Shape
from accounts.rest.views import Listed, Resource, Shown
from cascade import models, strategies, strategy_proposals, strategy_replays
from cascade.strategies import NoSuchStrategy
from cascade.turn_table import MOST_TURNS

# --- searches for a better strategy ---------------------------------------------------------


class ProposalRow(Row):
    """`strategy`: the version that is proposed; it is promoted as any other. `report`: what was found."""

    chatbot = Ref(source="chatbot_id", read_only=True)
    strategy = Ref(source="strategy_id", read_only=True, allow_null=True)

    class Meta:
        model = models.Proposal
        fields = (
            "id", "chatbot", "state", "percent", "step", "wish", "report", "refusal", "strategy", "asked_by",
            "created_at", "updated_at",
        )  # fmt: skip


CALLED = {"budget_micros": "per_thousand_turns", "prices": "price_factors", "assumed": "assumed_model"}  # by programs


class AssumedModel(Shape):
    """One that is right where `like` is, but for a random part of its answers, until it has this quality."""

    like = Text(max_length=100)
    quality = Number(min_value=0, max_value=1)
    per_thousand_turns = PositiveDollars()


class NewProposal(Shape):
    """What to look for: the same quality for less (`cheaper`), more quality for the same cost (`better`), or how strict
    the live strategy's models must be for a `promise`: at most so many of the answers that are shown are bad.

    With `price_factors` or an `assumed_model` the search is made in a market that is not there, and proposes nothing;
    the report tells what each model would be worth in it.
    """

    chatbot = Ref(models.Chatbot.objects.all)
    aim = serializers.ChoiceField(strategy_proposals.AIMS)
    quality = Number(min_value=0, max_value=1, required=False, help_text="For cheaper: hold this one; usual: today's.")
    per_thousand_turns = PositiveDollars(required=False, help_text="For better: spend this; usual: today's cost.")
    latency_seconds = Number(
        min_value=0.1, max_value=600, required=False, help_text="Within which 95 % of the turns are answered."
    )
    segments = Flag(required=False, help_text="Thresholds of their own for segments of customers, where they help.")
    most_bad = Number(min_value=0.001, max_value=0.5, required=False, help_text="For a promise; usual: 0.05.")
    confidence = Number(min_value=0.5, max_value=0.999, required=False, help_text="For a promise; usual: 0.95.")
    price_factors = serializers.DictField(
        child=Number(min_value=0.001, max_value=1000),
        required=False,
        help_text="What if these models cost so many times as much?",
    )
    assumed_model = AssumedModel(required=False)

    def validate(self, told: dict[str, Any]) -> dict[str, Any]:
        for field, aims in strategy_proposals.READ_BY.items():
            if (name := CALLED.get(field, field)) in told and told["aim"] not in aims:
                raise Problem("conflict", f"a search for {told['aim']} has no {name}", pointer=f"/{name}")
        assumed = told.get("assumed_model", {})
        for spender, place in ((told, ""), (assumed, "/assumed_model")):
            if spender.get("per_thousand_turns") == 0:
                raise Problem("conflict", "nothing is answered for nothing", pointer=f"{place}/per_thousand_turns")
        named = dict.fromkeys(told.get("price_factors", ()), "/price_factors")
        named |= {assumed["like"]: "/assumed_model/like"} if assumed else {}
        offered = strategies.offered() if named else ()
        for name, pointer in named.items():
            if name not in offered:
                raise Problem("not_found", f"{name[:100]} is not offered, or has no price", pointer=pointer)
        return told

    def wish(self) -> strategy_proposals.Wish:
        told = self.validated_data
        market = {"prices": told.get("price_factors", {})}
        if model := told.get("assumed_model"):
            cost = _a_turn(model["per_thousand_turns"])
            market["assumed"] = strategy_proposals.assumed(model["quality"], cost, model["like"])
        return strategy_proposals.Wish(
            told["aim"],
            told.get("quality"),
            _a_turn(told.get("per_thousand_turns")),
            told.get("latency_seconds"),
            **{name: told[name] for name in ("segments", "most_bad", "confidence") if name in told},
            **market,
        )


def _a_turn(per_thousand: int | None) -> float | None:
    """Micro-dollars."""
    return None if per_thousand is None else Money(per_thousand).micros / 1000


class Proposals(Listed, Shown, Resource):
    """Searches of a chatbot's own turns for a better strategy."""

    resource, rows = "proposals", models.Proposal
    serializer_class = ProposalRow
    filters = {
        "chatbot": Filter("chatbot_id", Id()),
        "state": Filter("state", serializers.ChoiceField(models.Proposal.State.choices)),
    }

    @extend_schema(request=NewProposal, responses={202: ProposalRow})
    def create(self, request: Any) -> Response:
        """Search in the background; one search of a chatbot at a time."""
        told = NewProposal(data=request.data)
        told.is_valid(raise_exception=True)
        try:
            begun = strategy_proposals.begin_later(told.validated_data["chatbot"], told.wish(), self.caller.name)
        except strategy_proposals.Searching as refused:
            raise Problem("conflict", str(refused)) from None
        begun.refresh_from_db()
        response = self.made(begun)
        response.status_code = 202
        return response


# --- trials in the shadow -------------------------------------------------------------------


class TrialRow(Row):
    """`report`: as a replay tells, once its turns are over; or `refusal`, why there is none."""

    chatbot = Ref(source="chatbot_id", read_only=True)
    strategy = Ref(models.CascadeStrategy.objects.select_related("chatbot").all)
    live = Ref(source="live_id", read_only=True)
    turns = Whole(min_value=strategy_replays.LEAST_TURNS, max_value=MOST_TURNS)

    class Meta:
        model = models.ShadowTrial
        fields = (
            "id", "chatbot", "strategy", "live", "turns", "state", "report", "begun_by", "ended_at", "created_at",
        )  # fmt: skip
        read_only_fields = ("state", "report", "begun_by", "ended_at")


class TrialSoFar(Shape):
    turns = Whole(help_text="That are over; all that is told before the end.")


class ShadowTrials(Listed, Shown, Resource):
    """A strategy that decides beside the live one, unseen, and is compared with it once, after so many turns."""

    resource, rows = "shadow-trials", models.ShadowTrial
    serializer_class = TrialRow
    filters = {
        "chatbot": Filter("chatbot_id", Id()),
        "state": Filter("state", serializers.ChoiceField(models.ShadowTrial.State.choices)),
    }

    def create(self, request: Any) -> Response:
        """Begin one; a chatbot has one at a time."""
        told = self.get_serializer(data=request.data)
        told.is_valid(raise_exception=True)
        wanted = told.validated_data
        try:
            begun = strategy_replays.begin(wanted["strategy"], wanted["turns"], self.caller.name)
        except strategy_replays.NoTrial as refused:
            raise Problem("conflict", str(refused)) from None
        begun.refresh_from_db()
        return self.made(begun)

    @extend_schema(responses=TrialSoFar, filters=False)
    @action(detail=True, methods=["get"], url_path="so-far")
    def so_far(self, request: Any, pk: Any) -> Response:
        """How far it is."""
        return Response({"turns": strategy_replays.so_far(self.get_object())})

    @extend_schema(request=None, responses=TrialRow)
    @action(detail=True, methods=["post"])
    def stop(self, request: Any, pk: Any) -> Response:
        """End it without a comparison."""
        trial = self.get_object()
        try:
            strategy_replays.stop(self.caller.tenant_id, trial.id)
        except NoSuchStrategy as refused:
            raise Problem("conflict", str(refused)) from None
        trial.refresh_from_db()
        return self.shown(trial)


# --- what a strategy would have done --------------------------------------------------------


class Estimate(Shape):
    mean = Number()
    low = Number(help_text="Of 95 in 100 draws.")
    high = Number()


class Answers(Shape):
    by = serializers.CharField(help_text="A model, or a person.")
    share = Number()


class Replay(Shape):
    """Costs are millionths of a dollar a turn; qualities from 0 to 1."""

    turns = Whole(help_text="Of the period, the newest 2,000 at most.")
    as_recorded = Whole(help_text="Known from what was asked anyway.")
    by_exploring = Whole(help_text="Known from turns that were explored.")
    unknown = Whole()
    unrepresented = Whole()
    unjudged = Whole()
    compared = Whole()
    other_weights = Whole(help_text="Scored by other weights than today's.")
    judged_by = serializers.DictField(child=Whole())
    quality = Estimate()
    cost_micros = Estimate()
    live_quality = Estimate()
    live_cost_micros = Estimate()
    quality_difference = Estimate()
    saved = Estimate(allow_null=True, help_text="Share of the live strategy's cost; null: that cost nothing.")
    answers = Answers(many=True)
    live_handed_over = Number()


# --- drift ----------------------------------------------------------------------------------


class DriftRow(Row):
    """`value` of the week against the band `low` to `high` of the weeks before."""

    chatbot = Ref(source="chatbot_id", read_only=True)

    class Meta:
        model = models.DriftReading
        fields = (
            "id", "chatbot", "segment", "measure", "week", "turns", "reference_turns", "reference", "value", "low",
            "high", "p_value", "out_of_band", "created_at",
        )  # fmt: skip


class DriftReadings(Listed, Shown, Resource):
    """What each week came to beside the weeks before; an alert where it left its band (`out_of_band=true`)."""

    resource, rows = "drift-readings", models.DriftReading
    serializer_class = DriftRow
    filters = {
        "chatbot": Filter("chatbot_id", Id()),
        "out_of_band": Filter("out_of_band", Flag()),
        "measure": Filter("measure", serializers.ChoiceField(models.DriftReading.Measure.choices)),
        "segment": text("segment"),
    }
