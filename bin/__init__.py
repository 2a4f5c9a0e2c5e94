"""What stands behind bin/serve and bin/test: no part of the deployed application."""
