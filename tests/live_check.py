"""Asks the real grid services and prints what they say: for a machine with a network; no test runs it.

Usage: python tests/live_check.py [--zone GB:gb --zone DE:energy_charts ...]

Each question of each provider is sent as a run would send it. Exit code 1: one of them failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package beside this program

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import PROVIDERS, Window, fetch

DEFAULT = (
    "GB:gb",
    "GB-LONDON:gb",
    "GB:gb:SW7",
    "DE:energy_charts",
    "FR:energy_charts",
    "DE:electricity_maps",
    "US-CAL-CISO:eia",
    "DE:entsoe",
    "US-CAL-CISO:watttime",
)
DAY_S = 86_400


def check(zone_id: str, name: str, argument: str) -> bool:
    """Ask one provider about the last and the next day; True if every question was answered."""
    provider = PROVIDERS[name]
    print(f"\n{name}: {zone_id} {argument}".rstrip())
    if provider.variable and not os.environ.get(provider.variable):
        print(f"  skipped: {provider.variable} is not set")
        return True
    now_s = time.time_ns() / 1e9
    place = f"{zone_id}:{argument}" if argument else zone_id
    good = True
    fetch_one = partial(fetch.get, passes={})  # one login for all questions
    try:
        requests = provider.request(place, Window(start_s=now_s - DAY_S, end_s=now_s + DAY_S), now_s)
    except GridError as error:
        print(f"  FAILED: {error}")
        return False
    for request in requests:
        print(f"  {request.what}: {request.url}")
        try:
            answer = provider.parse(fetch_one(request), request)
        except GridError as error:
            print(f"    FAILED: {error}")
            good = False
            continue
        kinds = {k: sum(s.kind == k for s in answer.slots) for k in ("actual", "estimated", "forecast")}
        first, last = answer.slots[0], answer.slots[-1]
        age_h = (now_s - last.end_s) / 3600
        print(
            f"    {len(answer.slots)} slots {kinds}, {first.gco2e_per_kwh:.0f} ... {last.gco2e_per_kwh:.0f} gCO2e/kWh"
        )
        print(f"    the last one ends {age_h:.1f} h ago (negative: ahead); {answer.note or 'no note'}")
    return good


def main() -> int:
    """Check what was asked for; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zone", action="append", metavar="ZONE:PROVIDER[:ARGUMENT]")
    asked = parser.parse_args().zone or DEFAULT
    results = [
        check(zone, name, more[0] if more else "") for zone, name, *more in (a.split(":") for a in asked)
    ]
    print(f"\n{sum(results)} of {len(results)} answered")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
