"""Leaves out what needs a tool this machine does not have; CI installs them all and says so."""

from __future__ import annotations

import os
import shutil

from tests.broker import mosquitto

collect_ignore = []
if not shutil.which("systemd-analyze") and os.environ.get("EDGE_TEST_REQUIRE_SYSTEMD") != "1":
    collect_ignore.append("test_systemd_analyze.py")
if not mosquitto():
    collect_ignore.append("test_mosquitto_conf.py")
