"""A gateway daemon that answers prompts from MQTT and HTTP with a language model on its own CPU."""

__version__ = "0.1.0"
