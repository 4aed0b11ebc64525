"""The workflows of replication; importing this module registers them."""

import replication.failback.end_workflow
import replication.failback.workflow
import replication.failover.workflow
import replication.seed_drives.workflow
import replication.transfer.workflow  # noqa: F401
