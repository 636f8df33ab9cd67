-- The mean winning price of each seller's last ten auctions, as each of them closes.
SELECT
    seller,
    avg(price) OVER (
        PARTITION BY seller ORDER BY expires, id ROWS BETWEEN 9 PRECEDING AND CURRENT ROW
    ) AS avg_price
FROM (
    SELECT
        a.id, a.seller, a.expires, b.price,
        row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time) AS place
    FROM auction AS a
    JOIN bid AS b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
) AS placed
WHERE place = 1
