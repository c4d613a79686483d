"""The OpenID provider that signs people in; imported only where one is configured."""
