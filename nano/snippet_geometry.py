"""Function families on shapes and points (format: `snippet_template`)."""

GEOMETRY = """
%% circle_area|area_of_circle|*circle_area ; float
def $f($radius: float) -> float:
    : Return the area of a circle.
    return math.pi * $radius ** 2
--
    return math.pi * $radius * $radius
%% circumference|*circumference|circle_perimeter ; float
def $f($radius: float) -> float:
    : Return the circumference of a circle.
    return 2 * math.pi * $radius
%% rectangle_area|area_of_rectangle|*rectangle_area ; int int
def $f($width: float, $height: float) -> float:
    : Return the area of a rectangle.
    return $width * $height
%% rectangle_perimeter|*rectangle_perimeter ; int int
def $f($width: float, $height: float) -> float:
    : Return the perimeter of a rectangle.
    return 2 * ($width + $height)
%% square_area|area_of_square ; int
def $f(side: float) -> float:
    : Return the area of a square.
    return side * side
--
    return side ** 2
%% triangle_area|area_of_triangle|*triangle_area ; int int
def $f(base: float, $height: float) -> float:
    : Return the area of a triangle.
    return base * $height / 2
--
    return 0.5 * base * $height
%% hypotenuse|*hypotenuse ; small small
def $f($a: float, $b: float) -> float:
    : Return the hypotenuse of a right triangle.
    return math.sqrt($a ** 2 + $b ** 2)
%% heron_area|triangle_area_from_sides
def $f(a: float, b: float, c: float) -> float:
    : Return the area of a triangle with sides a, b and c.
    s = (a + b + c) / 2
    return math.sqrt(s * (s - a) * (s - b) * (s - c))
%% is_triangle|is_valid_triangle ; int int int
def $f(a: int, b: int, c: int) -> bool:
    : Return True if a, b and c can be the sides of a triangle.
    return a + b > c and a + c > b and b + c > a
%% is_right_triangle|has_right_angle ; small small small
def $f(a: int, b: int, c: int) -> bool:
    : Return True if the triangle has a right angle.
    a, b, c = sorted([a, b, c])
    return a ** 2 + b ** 2 == c ** 2
%% box_volume|*box_volume|volume_of_box ; n n n
def $f(length: float, $width: float, $height: float) -> float:
    : Return the volume of a box.
    return length * $width * $height
%% box_surface|*surface_area ; n n n
def $f(length: float, $width: float, $height: float) -> float:
    : Return the surface area of a box.
    return 2 * (length * $width + length * $height + $width * $height)
%% cube_volume|volume_of_cube ; n
def $f(side: float) -> float:
    : Return the volume of a cube.
    return side ** 3
%% sphere_volume|*sphere_volume|volume_of_sphere ; float
def $f($radius: float) -> float:
    : Return the volume of a sphere.
    return 4 / 3 * math.pi * $radius ** 3
%% sphere_surface|*sphere_surface ; float
def $f($radius: float) -> float:
    : Return the surface area of a sphere.
    return 4 * math.pi * $radius ** 2
%% cylinder_volume|*cylinder_volume|volume_of_cylinder ; float float
def $f($radius: float, $height: float) -> float:
    : Return the volume of a cylinder.
    base = math.pi * $radius ** 2
    return base * $height
--
    return math.pi * $radius ** 2 * $height
%% trapezoid_area|*trapezoid_area ; n n small
def $f(top: float, bottom: float, $height: float) -> float:
    : Return the area of a trapezoid.
    return (top + bottom) / 2 * $height
%% distance|*distance|distance_between ; point point
def $f($p: tuple[float, float], $q: tuple[float, float]) -> float:
    : Return the distance between two points.
    dx = $p[0] - $q[0]
    dy = $p[1] - $q[1]
    return math.sqrt(dx * dx + dy * dy)
--
    x1, y1 = $p
    x2, y2 = $q
    return math.sqrt((x2 - x1) ** 2 + (y2 - y1) ** 2)
%% manhattan_distance|*grid_distance ; point point
def $f($p: tuple[int, int], $q: tuple[int, int]) -> int:
    : Return the Manhattan distance between two points.
    return abs($p[0] - $q[0]) + abs($p[1] - $q[1])
%% midpoint|*midpoint ; point point
def $f($p: tuple[float, float], $q: tuple[float, float]) -> tuple[float, float]:
    : Return the point halfway between two points.
    x = ($p[0] + $q[0]) / 2
    y = ($p[1] + $q[1]) / 2
    return x, y
%% slope|*slope ; point point
def $f($p: tuple[float, float], $q: tuple[float, float]) -> float:
    : Return the slope of the line through two points.
    x1, y1 = $p
    x2, y2 = $q
    if x1 == x2:
        raise ValueError("the line is vertical")
    return (y2 - y1) / (x2 - x1)
%% translate|move_point|shift_point ; point n n
def $f(point: tuple[int, int], dx: int, dy: int) -> tuple[int, int]:
    : Return the point moved by dx and dy.
    x, y = point
    return x + dx, y + dy
%% scale_point|scaled ; point small
def $f(point: tuple[int, int], factor: int) -> tuple[int, int]:
    : Return the point scaled by the factor.
    x, y = point
    return x * factor, y * factor
%% dot_product|dot ; nats nats
def $f(u: list[float], v: list[float]) -> float:
    : Return the dot product of two vectors.
    return sum(a * b for a, b in zip(u, v))
%% vector_length|norm|*norm ; nats
def $f(vector: list[float]) -> float:
    : Return the length of a vector.
    return math.sqrt(sum(x * x for x in vector))
%% bounding_box|*bounds ; points
def $f(points: list[tuple[int, int]]) -> tuple[int, int, int, int]:
    : Return the smallest box around the points.
    xs = [x for x, y in points]
    ys = [y for x, y in points]
    return min(xs), min(ys), max(xs), max(ys)
%% polygon_perimeter|*perimeter ; nats
def $f(sides: list[float]) -> float:
    : Return the perimeter of a polygon.
    $total = 0
    for side in sides:
        $total += side
    return $total
--
    return sum(sides)
%% is_inside_circle|in_circle ; point n
def $f(point: tuple[float, float], $radius: float) -> bool:
    : Return True if the point is inside the circle around the origin.
    x, y = point
    return x * x + y * y <= $radius * $radius
%% to_radians|degrees_to_radians ; int
def $f(degrees: float) -> float:
    : Return the angle in radians.
    return degrees * math.pi / 180
%% to_degrees|radians_to_degrees ; small
def $f(radians: float) -> float:
    : Return the angle in degrees.
    return radians * 180 / math.pi
"""
