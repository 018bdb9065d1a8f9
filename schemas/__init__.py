"""The boundary types that every part of labelstream agrees on (floor 1: imports nothing of ours)."""
