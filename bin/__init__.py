"""The code of bin/serve and bin/test. The deployed application does not use it."""
