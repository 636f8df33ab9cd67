-- The auctions with the most bids in the last ten seconds, every two seconds.
WITH counted AS (
    SELECT auction, window_start, window_end, count(*) AS num
    FROM HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND)
    GROUP BY auction, window_start, window_end
),
most AS (
    SELECT window_start, window_end, max(num) AS num
    FROM counted
    GROUP BY window_start, window_end
)
SELECT c.auction, c.num
FROM counted AS c
JOIN most AS m ON c.window_start = m.window_start AND c.window_end = m.window_end AND c.num >= m.num
