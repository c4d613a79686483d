"""Moving in: the users, teams, limits and keys of another gateway, from its exports."""
