"""What passes between the stages of a turn: frozen values, no rows, no I/O.

Every later stage (context, policy, runner, scorer, pricing) takes and returns these,
so the engine runs in a notebook, a command or a test as well as behind a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from accounts.money import Money

# --- who asks, and what is known of them --------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """One thing the tenant knows of one customer: an order, a plan, a reservation."""

    type: str  # "order", "subscription", ...: the tenant's own word
    external_id: str  # the tenant's id, unique for this customer and type
    as_of: datetime  # aware; when the tenant last vouched for `data`
    data: Mapping[str, Any]  # a JSON object


@dataclass(frozen=True, slots=True)
class Customer:
    """The end user who asks. Only this customer's own data is ever in reach."""

    external_id: str
    verified: bool = False  # False: a visitor, or an identity nobody signed
    locale: str | None = None  # BCP 47; None: unknown
    attributes: Mapping[str, Any] = field(default_factory=dict)  # a JSON object: profile, plan, ...
    records: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class Utterance:
    """One earlier message of the conversation."""

    role: Literal["customer", "assistant", "staff"]
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of one of the tenant's articles."""

    source_id: str  # the article's slug
    title: str
    text: str
    relevance: float | None = None  # for order alone, higher is better; None: nothing has searched for it


@dataclass(frozen=True, slots=True)
class Context:
    """All that an answer may rest on: what the prompt shows and what the scorer reads."""

    customer: Customer
    question: str
    now: datetime  # aware; the moment the question arrived
    history: tuple[Utterance, ...] = ()  # oldest first
    summary: str = ""  # of what came before `history`; "" when nothing did
    passages: tuple[Passage, ...] = ()


# --- asking a model -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PromptMessage:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked. `input_tokens` is an upper estimate, used to reserve money."""

    messages: tuple[PromptMessage, ...]
    input_tokens: int
    call_id: str = ""  # told to the provider, so that its log can be matched with the books; "": no call yet
    stable: int = 0  # so many characters of the first message are the same whoever asks: a provider may keep them


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as the provider reports them."""

    input_tokens: int = 0  # all prompt tokens, the cached ones included
    output_tokens: int = 0  # all completion tokens, the reasoning ones included
    cached_input_tokens: int = 0  # part of input_tokens, read from the provider's prompt cache
    cache_write_tokens: int = 0  # part of input_tokens, written to that cache
    reasoning_tokens: int = 0  # part of output_tokens


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """US dollars per million tokens of a call, all of its tokens, whose prompt has more than `above` tokens."""

    above: int
    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None  # None: as in `Price`
    cache_write: Decimal | None = None
    reasoning: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """One dated price version of one model, in US dollars per million tokens."""

    version: str  # the id of the price row that is pinned on the call
    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None  # None: the provider gives no discount, `input` applies
    cache_write: Decimal | None = None  # None: writing costs what reading fresh input costs
    per_request: Decimal = Decimal(0)  # US dollars a call, not per million
    reasoning: Decimal | None = None  # of output tokens that are not shown; None: `output` applies
    batch: Decimal | None = None  # 0.5: through the provider's batch door tokens cost half; None: no such price
    long_prompts: tuple[LongPrompt, ...] = ()  # dearer rates, the highest `above` that is exceeded applies


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A model that can be asked, and what it costs today."""

    name: str  # the product's own name for it, unique: "openai/gpt-4o-mini"
    provider: str  # a key of the provider registry: "openai", "anthropic", "local"
    remote_name: str  # what the provider calls it
    price: Price
    base_url: str = ""  # "": the provider's own address


@dataclass(frozen=True, slots=True)
class Tier:
    """One step of the cascade."""

    model: LanguageModel
    threshold: float  # accept an answer whose score is at least this, 0..1
    deadline_seconds: float
    max_output_tokens: int


@dataclass(frozen=True, slots=True)
class Strategy:
    """An immutable version of a cascade: cheapest tier first."""

    version: str
    tiers: tuple[Tier, ...]
    deadline_seconds: float  # for all tiers of a turn together


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content-filter"
    OTHER = "other"
    GIVEN_UP = "given-up"  # by us: the draft was lost before it was whole


class Outcome(StrEnum):
    """What became of an attempt."""

    ASKED = "asked"  # on record before the call; still running, or died with its process
    ACCEPTED = "accepted"
    REJECTED = "rejected"  # answered, but not good enough for this customer
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPLORED = "explored"  # asked after the reply, to learn what it would have said; nobody saw it


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one tier's model, whatever became of it."""

    id: str  # the ModelCall on record
    tier: int  # index into the strategy's tiers
    model: str
    text: str
    finish_reason: FinishReason | None  # None: the call did not finish
    usage: Usage
    estimated: bool  # True: the provider did not report the usage, ours is a bounded estimate
    cost: Money
    score: float | None  # None: not scored (failed, empty, scorer down); never accepted. Given up: of its beginning
    error: str | None = None  # a code of `cascade.errors`; None: answered
    first_token_seconds: float | None = None  # None: no token came
    seconds: float = 0.0
