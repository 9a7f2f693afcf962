"""Looks up known vulnerabilities of everything in constraints.txt with pip-audit.

    make audit
    make audit ARGUMENTS="--vulnerability-service osv"

Exit code 0: everything was looked up and nothing is known. 1: something is known. 2: not everything could be looked up;
pip-audit by itself passes over what its service does not answer for, and says that no vulnerabilities were found.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"


def main() -> None:
    """Runs pip-audit over the pins as they are, and judges its report."""
    asked = ["--requirement", str(CONSTRAINTS), "--disable-pip", "--no-deps", "--require-hashes"]
    shape = ["--progress-spinner", "off", "--format", "json"]
    command = [sys.executable, "-W", "ignore", "-m", "pip_audit", *asked, *shape, *sys.argv[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        sys.exit(_ended(f"pip-audit gave no report: {last}"))
    sys.exit(judged(found))


def judged(found: list[dict[str, Any]]) -> int:
    """Prints what was found of each dependency, and returns the exit code."""
    skipped = [item for item in found if "vulns" not in item]
    affected = [item for item in found if item.get("vulns")]
    for item in affected:
        known = ", ".join(one["id"] for one in item["vulns"])
        print(f"{item['name']} {item['version']}: {known}")
    if skipped or not found:
        first = f"; first {skipped[0]['name']}: {skipped[0].get('skip_reason')}" if skipped else ""
        return _ended(f"{len(skipped)} of {len(found)} packages could not be looked up{first}")
    print(f"{len(found)} packages looked up, {len(affected)} with known vulnerabilities")
    return 1 if affected else 0


def _ended(reason: str) -> int:
    print(f"audit: NOT DONE: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
