"""KServe's V2 protocol, also called Open Inference Protocol, over REST, with its extension for binary tensors."""
