"""The MQTT surface on paho, driven by the event loop."""
