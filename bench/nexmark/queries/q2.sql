-- The bids on every 123rd auction, with their prices.
SELECT auction, price
FROM bid
WHERE auction % 123 = 0
