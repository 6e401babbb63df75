"""What the operator sees: logs, health, and the service manager."""
