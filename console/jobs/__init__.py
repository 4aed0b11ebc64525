"""Jobs: durable rows, a step engine, rescue, and the pages that show them."""
