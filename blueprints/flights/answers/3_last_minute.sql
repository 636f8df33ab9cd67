-- The last minute of events
SELECT event_time, carrier, flight, origin, dest, dep_delay
FROM flights
WHERE event_time > (SELECT max(event_time) FROM flights) - INTERVAL '1 minute'
ORDER BY event_time, carrier, flight
