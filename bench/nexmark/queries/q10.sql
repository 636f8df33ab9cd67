-- The bids with the day and the minute of the file they belong to.
SELECT
    auction, bidder, price, date_time, extra,
    date_time::date::text AS day,
    left(date_time::time::text, 5) AS minute
FROM bid
