"""What an environment costs per month at 3 and at 10 serving nodes, from the prices in prices.yaml.

python infra/costs.py [PRICES]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

NODES = (3, 10)


def costs(prices: dict[str, Any], n_serving: int) -> dict[str, float]:
    """Euros per month by item, with `n_serving` serving nodes all the time."""
    use = prices["use"]
    node = {name: use["hours"] * price for name, price in prices["node_hour"].items()}
    spot = prices["node_hour"][use["tuning_size"]] * prices["spot_share"]
    samples = use["metrics_million_samples_per_node"] * (n_serving + use["system_nodes"])
    return {
        "serving nodes": n_serving * node[use["serving_size"]],
        "system nodes": use["system_nodes"] * node[use["system_size"]],
        "spot nodes for tuning": use["tuning_node_hours"] * spot,
        "PostgreSQL with a standby": use["hours"] * sum(prices["database_hour"].values())
        + 2 * use["database_gib"] * prices["database_storage_gib_month"],
        "storage": use["storage_gib"] * prices["storage_gib_month"],
        "logs": use["logs_gib"] * prices["logs_gib"],
        "metrics": samples * prices["metrics_million_samples"],
        **prices["fixed_month"],
    }


def table(prices: dict[str, Any]) -> str:
    """The items in Markdown, and their sum."""
    columns = [costs(prices, n) for n in NODES]
    lines = ["| euros per month | " + " | ".join(f"{n} workers" for n in NODES) + " |", "|---|" + "---:|" * len(NODES)]
    lines += [f"| {item} | " + " | ".join(f"{column[item]:,.0f}" for column in columns) + " |" for item in columns[0]]
    lines.append("| **sum** | " + " | ".join(f"**{sum(column.values()):,.0f}**" for column in columns) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("prices.yaml")
    print(table(yaml.safe_load(path.read_text(encoding="utf-8"))), end="")
