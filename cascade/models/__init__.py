"""The rows around the engine, a file to a subject.

`cascade.conversations` is the only writer of conversations, messages, calls and events.
`LanguageModel` and `Price` belong to the operator; only a price may be one tenant's own.
"""

from cascade.models.chatbots import CascadeStrategy, Chatbot
from cascade.models.constraints import SHARE, unique
from cascade.models.conversations import Conversation, Event, Feedback, Message, ModelCall, Turn, TurnContext
from cascade.models.knowledge import Article, Passage, Upload
from cascade.models.learning import DriftReading, Exploration, Proposal, ShadowTrial, StrategyChange
from cascade.models.memory import ExampleQuestion, Lookup, MemoryUse, RememberedAnswer, SavedReply
from cascade.models.prices import LanguageModel, Price
from cascade.models.scoring import ScorerCalibration, ScorerVersion, ShadowScore

__all__ = [
    "SHARE",
    "Article",
    "CascadeStrategy",
    "Chatbot",
    "Conversation",
    "DriftReading",
    "Event",
    "ExampleQuestion",
    "Exploration",
    "Feedback",
    "LanguageModel",
    "Lookup",
    "MemoryUse",
    "Message",
    "ModelCall",
    "Passage",
    "Price",
    "Proposal",
    "RememberedAnswer",
    "SavedReply",
    "ScorerCalibration",
    "ScorerVersion",
    "ShadowScore",
    "ShadowTrial",
    "StrategyChange",
    "Turn",
    "TurnContext",
    "Upload",
    "unique",
]
