"""The core's side: what a core uses to talk to its agents.

The agent never imports this package, and it is not copied to machines.
"""

from agent.client.client import AgentClient, PairedAgent, SnapshotResult, pair_with_agent
from agent.client.connection import CoreCredentials
from agent.client.deadline import Deadline
from agent.client.description import MachineDescription
from agent.client.receiving import SnapshotSink
from agent.client.restoring import RestoredDisk, RestoreState
from agent.stream import ParentDisk

__all__ = [
    "AgentClient",
    "CoreCredentials",
    "Deadline",
    "MachineDescription",
    "PairedAgent",
    "ParentDisk",
    "RestoreState",
    "RestoredDisk",
    "SnapshotResult",
    "SnapshotSink",
    "pair_with_agent",
]
