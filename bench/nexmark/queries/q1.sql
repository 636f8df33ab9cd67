-- The price of each bid in euros instead of dollars.
SELECT auction, bidder, price * 0.908::decimal(4, 3) AS price, date_time, extra
FROM bid
