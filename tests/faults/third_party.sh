#!/usr/bin/env bash
# Listens with curl, which keeps no cursor and does not reconnect: the loop does both. Prints each message and each reset
# as a line of JSON. An event counts once its empty line has come.
set -u
cursor=
while :; do
  id= event= data=
  while IFS= read -r line; do
    case $line in
      'id: '*) id=${line#id: } ;;
      'event: '*) event=${line#event: } ;;
      'data: '*) data=${line#data: } ;;
      '')
        [ -z "$id" ] || cursor=$id
        case $event in hello | message | reset) printf '{"event":"%s","id":"%s","data":%s}\n' "$event" "$id" "$data" ;; esac
        id= event= data=
        ;;
    esac
  done < <(curl -sN -H "Authorization: Bearer $NOTIFIER_TOKEN" -H "Last-Event-ID: $cursor" "$NOTIFIER_URL/v1/stream")
  sleep 0.2
done
