-- The bids of a middling price in euros, with the part of the day and the number of times "c" is in their text.
SELECT
    auction, bidder,
    price * 0.908::decimal(4, 3) AS price,
    CASE
        WHEN extract(hour FROM date_time) >= 8 AND extract(hour FROM date_time) <= 18 THEN 'dayTime'
        WHEN extract(hour FROM date_time) <= 6 OR extract(hour FROM date_time) >= 20 THEN 'nightTime'
        ELSE 'otherTime'
    END AS bid_time_type,
    date_time, extra,
    length(extra) - length(replace(extra, 'c', '')) AS c_counts
FROM bid
WHERE price * 0.908::decimal(4, 3) > 1000000 AND price * 0.908::decimal(4, 3) < 50000000
