-- The highest bids of every ten seconds.
SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
FROM bid AS b
JOIN (
    SELECT window_start, window_end, max(price) AS highest
    FROM TUMBLE(bid, date_time, INTERVAL '10' SECOND)
    GROUP BY window_start, window_end
) AS w ON b.price = w.highest AND b.date_time BETWEEN w.window_start AND w.window_end
