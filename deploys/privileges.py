"""Let accounts that are not root look at the nodes, or fix them, and nothing else; or take that away.

    pyinfra inventory deploys/privileges.py --dry                  # what would be installed
    pyinfra inventory deploys/privileges.py -y                     # as root, once, and after each upgrade of dnsmend
    pyinfra inventory deploys/privileges.py -y --data remove=true  # what was installed, and nothing else

See docs/privileges.md.
"""

from pyinfra import host

from deploys import policy as policies
from operations import privileges

if policies.switch(host, "remove"):
    privileges.remove(name="Only root may look at the node")
else:
    privileges.install(name="Accounts may look at the node, or fix it, and nothing else")
