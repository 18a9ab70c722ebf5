#!/bin/sh
# Onetake's namespace with its retention and its search attributes; it may be run again. Retention is at least the time
# in which operators look back, and in which a failover is repaired from histories (7 days).
set -eu
namespace=${TEMPORAL_NAMESPACE:?names the namespace}
retention=${RETENTION:-720h}

if temporal operator namespace describe --namespace "$namespace" >/dev/null 2>&1; then
    temporal operator namespace update --namespace "$namespace" --retention "$retention"
else
    temporal operator namespace create --namespace "$namespace" --retention "$retention"
fi

# A namespace that was just made is not known to every part of the server at once.
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    known=$(temporal operator search-attribute list --namespace "$namespace" 2>/dev/null) && break
    [ "$attempt" != 10 ] || { echo "the namespace cannot be used" >&2 && exit 1; }
    sleep 2
done
for name in OnetakeDay OnetakeErrorCode OnetakePhase OnetakeRoute OnetakeTenant OnetakeVendor; do
    case $known in
    *"$name"*) ;;
    *) temporal operator search-attribute create --namespace "$namespace" --name "$name" --type Keyword ;;
    esac
done
