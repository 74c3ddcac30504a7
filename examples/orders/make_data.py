#!/usr/bin/env python3
"""Makes the CSV files of this example: thirty days of orders, one file a day. The same files every time."""
import csv
import datetime
import pathlib

COUNTRIES = ["Austria", "Brazil", "Canada", "Denmark", "Egypt"]
PRODUCTS = [("lamp", "24.90"), ("chair", "89.00"), ("desk", "249.50"), ("shelf", "59.95"), ("rug", "119.00")]


def numbers(seed):
    """A small linear congruential generator, so that no Python version changes the data."""
    state = seed
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state >> 33


def main():
    out = pathlib.Path(__file__).parent / "data"
    out.mkdir(exist_ok=True)
    roll = numbers(20260115)
    order = 1000
    for day in range(30):
        date = datetime.date(2026, 1, 15) + datetime.timedelta(days=day)
        with open(out / f"orders-{date}.csv", "w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["order_id", "order_date", "country", "product", "quantity", "unit_price"])
            for _ in range(20 + next(roll) % 20):
                order += 1
                product, price = PRODUCTS[next(roll) % len(PRODUCTS)]
                country = COUNTRIES[next(roll) % len(COUNTRIES)]
                rows.writerow([order, date, country, product, 1 + next(roll) % 5, price])


if __name__ == "__main__":
    main()
