-- What fog costs: mean delay at departure, in minutes, by visibility at the airport in that hour
SELECT CASE WHEN w.visib < 1 THEN 'under 1 mile'
            WHEN w.visib < 5 THEN '1 to 5 miles'
            ELSE '5 miles or more' END AS visibility,
       count(*) AS flights,
       round(avg(f.dep_delay), 2) AS mean_delay
FROM flights f
JOIN weather w ON w.origin = f.origin AND w.time_hour = f.time_hour
GROUP BY 1
ORDER BY mean_delay DESC
