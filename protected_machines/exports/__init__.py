"""Virtual machines made of recovery points, and the vCenters that they go to."""
