"""The cloud side of motelet: it runs beside the cluster and speaks to the boards."""
