-- The worst route: the latest arrivals on average, of those flown 100 times or more
SELECT r.origin, r.dest, a.name AS airport, r.flights, r.mean_delay
FROM (
    SELECT origin, dest, count(*) AS flights, round(avg(arr_delay), 2) AS mean_delay
    FROM flights
    GROUP BY origin, dest
    HAVING count(*) >= 100
    ORDER BY mean_delay DESC
    LIMIT 1
) r
LEFT JOIN airports a ON a.faa = r.dest
