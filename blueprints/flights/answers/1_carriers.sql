-- Flights and mean delay at departure, in minutes, per carrier
SELECT a.name AS carrier,
       count(*) AS flights,
       count(*) FILTER (WHERE f.dep_time IS NULL) AS cancelled,
       round(avg(f.dep_delay), 2) AS mean_delay
FROM flights f
JOIN airlines a ON a.carrier = f.carrier
GROUP BY a.name
ORDER BY mean_delay DESC
