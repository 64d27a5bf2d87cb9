"""Take back what a run has changed, on every node of the inventory that it changed.

pyinfra -y inventory deploys/undo.py --data run=20261121T235959Z-1f3a
"""

from pyinfra import host
from pyinfra.api.exceptions import PyinfraError

from deploys import policy as policies
from operations import cluster, runs

run = str(getattr(host.data, "run", ""))
if not run or "/" in run:
    raise PyinfraError("which run? give its id: --data run=RUN (see runs/ here, or /var/lib/dnsmend on a node)")

runs.undo(name=f"Take back run {run}", run=run)
kubectl = policies.cluster(host)
if kubectl:
    cluster.uncordon(name=f"Takes pods again, if run {run} had cordoned it", kubectl=kubectl, run=run)
