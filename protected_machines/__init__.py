"""Protected machines, their agents, recovery points, snapshots and exports."""
