"""The app for `fastapi dev`, which cannot call a factory.

Settings and model come from the environment. Nothing else imports this module: it loads the model.
"""

from api.app import create_app

app = create_app()
