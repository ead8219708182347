"""How a cascade comes to be what it is: changes, explored turns, proposals, trials, drift."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.models import TenantRow
from cascade.models.chatbots import CascadeStrategy, Chatbot
from cascade.models.constraints import SHARE, unique
from cascade.models.conversations import Turn


class StrategyChange(TenantRow):
    """By which strategy a chatbot lives from now on, and who said so. Never changed, never deleted.

    `cascade.strategies` is the only writer, of this and of `Chatbot.live_strategy`.
    """

    class Kind(models.TextChoices):
        PROMOTED = "promoted"
        ROLLED_BACK = "rolled_back", "rolled back"

    chatbot = models.ForeignKey(Chatbot, models.PROTECT, related_name="strategy_changes")
    kind = models.CharField(max_length=11, choices=Kind)
    before = models.ForeignKey(CascadeStrategy, models.PROTECT, null=True, related_name="+")  # None: there was none
    after = models.ForeignKey(CascadeStrategy, models.PROTECT, related_name="+")
    by = models.CharField(max_length=150)

    class Meta:
        indexes = [models.Index(fields=["chatbot", "created_at"], name="strategy_changes_by_time")]

    def __str__(self) -> str:
        return f"{self.before or 'none'} → {self.after}"


class Exploration(TenantRow):
    """A turn that was looked at for exploring: with which chance it was drawn, and what became of it.

    Its id stands for the turn on the hold and the charges of what was asked.
    """

    class State(models.TextChoices):
        PASSED = "passed", "not drawn"
        ASKING = "asking"
        DONE = "done"
        BROKEN_OFF = "broken_off", "broken off"

    turn = models.OneToOneField(Turn, models.CASCADE, related_name="exploration")
    chance = models.FloatField(validators=SHARE, help_text="Of being drawn; 0: it could not be afforded.")
    state = models.CharField(max_length=10, choices=State, default=State.PASSED)

    class Meta:
        indexes = [models.Index(fields=["tenant"], name="explorations_asking", condition=Q(state="asking"))]

    def __str__(self) -> str:
        return f"{self.get_state_display()}, chance {self.chance:g}"


class Proposal(TenantRow):
    """A search for a better strategy on the chatbot's own turns, and the version that it proposes."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        PROPOSED = "proposed"
        REFUSED = "refused", "no proposal"
        FAILED = "failed"

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="proposals")
    state = models.CharField(max_length=8, choices=State, default=State.QUEUED)
    percent = models.PositiveSmallIntegerField(default=0)
    step = models.CharField(max_length=100, blank=True, help_text="What is being done.")
    wish = models.JSONField(default=dict, help_text="What was asked for.")
    report = models.JSONField(default=dict, help_text="What was found.")
    refusal = models.TextField(blank=True, help_text="Why nothing is proposed.")
    strategy = models.OneToOneField(CascadeStrategy, models.PROTECT, null=True, related_name="proposal")
    asked_by = models.CharField(max_length=150)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [models.Index(fields=["tenant", "created_at"], name="proposals_by_time")]

    def __str__(self) -> str:
        return f"proposal of {self.created_at:%Y-%m-%d %H:%M}"


class ShadowTrial(TenantRow):
    """A strategy that decides beside the live one, unseen, and is compared with it once, after so many turns."""

    class State(models.TextChoices):
        RUNNING = "running"
        COMPARED = "compared"
        STOPPED = "stopped"

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="shadow_trials")
    strategy = models.ForeignKey(CascadeStrategy, models.PROTECT, related_name="+")
    live = models.ForeignKey(CascadeStrategy, models.PROTECT, related_name="+")
    turns = models.PositiveIntegerField(help_text="After so many turns they are compared.")
    state = models.CharField(max_length=8, choices=State, default=State.RUNNING)
    report = models.JSONField(default=dict)
    begun_by = models.CharField(max_length=150)
    ended_at = models.DateTimeField(null=True)  # None: it runs

    class Meta:
        constraints = [unique("one_running_trial_a_chatbot", "chatbot", condition=Q(state="running"))]

    def __str__(self) -> str:
        return f"{self.strategy} beside {self.live}"


class DriftReading(TenantRow):
    """What one measure of a chatbot's week came to, beside the weeks before: an event where it left its band."""

    class Measure(models.TextChoices):
        SCORES = "scores", "scores of first answers"
        ACCEPTED = "accepted", "first answers accepted"
        COST = "cost", "cost of a turn"
        LABELLED = "labelled", "replies that somebody judged"

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="drift_readings")
    segment = models.CharField(max_length=200, blank=True, help_text="Of customers; empty: all.")
    measure = models.CharField(max_length=8, choices=Measure)
    week = models.DateField(help_text="Its Monday, where the tenant is.")
    turns = models.PositiveIntegerField()
    reference_turns = models.PositiveIntegerField()
    reference = models.FloatField()
    value = models.FloatField()
    low = models.FloatField()
    high = models.FloatField()
    p_value = models.FloatField()
    out_of_band = models.BooleanField()

    class Meta:
        constraints = [unique("one_reading_a_week", "chatbot", "segment", "measure", "week")]
        indexes = [models.Index(fields=["tenant", "created_at"], name="drift_events", condition=Q(out_of_band=True))]

    def __str__(self) -> str:
        return f"{self.get_measure_display()} in the week of {self.week}"
