"""Lower bounds on spans: from the sets that open first (levels), and from a relaxation over states."""
