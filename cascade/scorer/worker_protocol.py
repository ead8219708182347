"""The replies between the scorer's process and its parent; apart, so that the parent need not import torch."""

from __future__ import annotations

import struct

REPLY = struct.Struct("<Id")  # number of the question, score (NaN: none)
READY = 0  # the number of the reply that says: loaded and warm
