"""The meaning: values, states, prices, failures and ports; standard library only."""
