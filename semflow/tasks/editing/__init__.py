"""Instance-level editing: things of a trained scene removed, recoloured, moved, copied, shown at another time."""
