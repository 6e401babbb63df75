"""Every knob once: its unit, default, bounds and one line of help, read from YAML and environment.

Order, later wins: defaults here, the YAML file, `EDGE_AGENT_*` variables (`EDGE_AGENT_HTTP__LISTEN`
is `http.listen`; the value is YAML). Unknown keys are errors that name the nearest known one.
Secrets are never values here: the configuration names the files that hold them.

A section of the file is a module here; outside, its class is `config.Section`.
"""

from edge_agent.config.daemon import Daemon
from edge_agent.config.engine import Engine
from edge_agent.config.home import home_dir
from edge_agent.config.http import Http
from edge_agent.config.journal import Journal
from edge_agent.config.knobs import Knob, knobs
from edge_agent.config.limits import Limits
from edge_agent.config.memory import Memory
from edge_agent.config.mqtt import Mqtt
from edge_agent.config.peer import Peer
from edge_agent.config.pinned import Pinned
from edge_agent.config.reading import DEFAULT_FILE, ENV_PREFIX, ENV_RESERVED, load
from edge_agent.config.routing import Routing
from edge_agent.config.settings import Config
from edge_agent.config.units import Seconds

__all__ = [
    "DEFAULT_FILE",
    "ENV_PREFIX",
    "ENV_RESERVED",
    "Config",
    "Daemon",
    "Engine",
    "Http",
    "Journal",
    "Knob",
    "Limits",
    "Memory",
    "Mqtt",
    "Peer",
    "Pinned",
    "Routing",
    "Seconds",
    "home_dir",
    "knobs",
    "load",
]
