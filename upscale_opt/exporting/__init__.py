"""From a plan to an export that is verified and trains as the masked network does; and from a saved plan back to it."""
