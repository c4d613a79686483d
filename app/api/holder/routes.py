"""Routes of the page and for holders, on one page."""

from app.api import console
from app.api.holder import operations as op
from app.api.holder import session
from app.api.openapi import DocumentedRoute

SESSION = "/v1/koi/session"

PAGE_ROUTES = (
    DocumentedRoute("GET", "/", console.shell, op.PAGE),
    DocumentedRoute("GET", "/console/{name}", console.asset, op.PAGE_FILE),
    DocumentedRoute("GET", "/console/{folder}/{name}", console.asset, op.PAGE_FILE_IN_FOLDER),
)
HOLDER_ROUTES = (
    DocumentedRoute("POST", SESSION, session.create, op.SIGN_IN),
    DocumentedRoute("GET", SESSION, session.read, op.READ_SESSION),
    DocumentedRoute("DELETE", SESSION, session.delete, op.SIGN_OUT),
)
