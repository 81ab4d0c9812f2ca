"""Costs that depend on spans: paths over pairs of chains, bounds from levels and states, searches of both kinds."""
