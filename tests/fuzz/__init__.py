"""A fuzz of every public function: each argument in turn replaced by hostile values; see `hostile` and `judge`."""
