"""What a text means, as a vector: similar texts lie close together. Served by a process of its own (`serving`)."""

MODEL = "minilm-l6-v2"  # of local_models.toml
SIZE = 384  # figures a vector
