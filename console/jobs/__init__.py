"""Jobs: durable rows, a step engine, the rescuer, and the pages that show them."""
