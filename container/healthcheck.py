"""Ends with 0 when the model of this container answers, else with 1 and the reason.

Needs nothing but the standard library. An argument replaces the address that is asked.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request

ADDRESS = "http://127.0.0.1:8080/health"
# Below the time the container engine gives the whole check; /health never waits for the model.
LIMIT_S = 4.0


def main(arguments: list[str]) -> int:
    """Ask once."""
    address = arguments[0] if arguments else ADDRESS
    # No proxy: a setting for the way out must not lead the way in.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=LIMIT_S) as answer:
            print(answer.read(4096).decode(errors="replace"))
    except urllib.error.HTTPError as refusal:
        print(refusal.read(4096).decode(errors="replace"))
        return 1
    except OSError as exc:
        print(f"{address} does not answer: {exc}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
