"""OpenAI's administration API, as the official SDK's `client.admin.organization` calls it.

A team is a project, a person a user, an app a service account. What Koi has beyond OpenAI's fields
is added to its objects; what it lacks is refused by the name of the field.
"""
